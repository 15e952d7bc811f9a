"""Where a run happens: virtual time, network, disks, faults, clients."""
