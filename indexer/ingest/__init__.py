"""Write over the wire: documents that clients put and delete, in a process beside the server."""
