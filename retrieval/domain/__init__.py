"""Words that all of the project shares: records, passages, names, options, deadlines, wording."""
