"""From the command line to the configuration that every process of the node reads."""
