"""Commands of the program ``retrieval``, and what both programs share on the command line."""
