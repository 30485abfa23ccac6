"""What the server refuses before it hands a document over: rules, sizes, types and quotas."""
