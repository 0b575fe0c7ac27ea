"""The engine in Julia: in this process, or on many ranks."""
