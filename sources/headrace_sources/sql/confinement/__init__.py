"""What a connection may use: parameters of drivers, and files and credentials of the worker's machine."""
