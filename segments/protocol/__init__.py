"""The contract between compute and storage: ids, the redo record, messages, their bytes, errors."""
