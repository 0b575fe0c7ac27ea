"""The Julia engine, in this process or on many ranks."""
