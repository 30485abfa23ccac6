"""Cut a document into chunks that fit the model, along the structure of the document."""
