"""The writer process as the server sees it: started, watched, and started again."""
