"""The commands, one file each; importing one costs no more than its help needs."""
