"""Dataset and run folders: the only code that knows file names."""
