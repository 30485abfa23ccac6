"""The commands of the ``retrieval`` program, and what both programs share on the command line."""
