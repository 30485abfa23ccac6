"""Records and small tools that every layer uses; nothing here knows a file, a model or a wire."""
