"""Small objects of an index, such as pointers: files of a folder, or objects of a bucket."""
