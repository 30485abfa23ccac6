"""A Ray cluster as the place where a build reads files and embeds texts."""
