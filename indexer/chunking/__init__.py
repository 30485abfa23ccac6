"""Cut documents into units, and put the units together into chunks."""
