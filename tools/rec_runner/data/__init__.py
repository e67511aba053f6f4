"""From a folder of files to the windows of batches that an engine takes."""
