"""A new generation of an index beside the present one."""
