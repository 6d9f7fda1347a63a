"""Finding out what a file system honours, from two nodes. Standard library only (Python 3.8+)."""
