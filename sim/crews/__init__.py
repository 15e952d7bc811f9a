"""Who does much work, item by item: processes on this machine, or Dask workers on others."""
