"""The machinery of the command line: parsing, sentences for errors, exit statuses, completion."""
