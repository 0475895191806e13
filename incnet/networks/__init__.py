"""Networks other than incnet's own architectures: as data, made by a function of the user's, kept in a file."""
