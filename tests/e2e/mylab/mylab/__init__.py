"""A package of a user's: everything that harness can be given, and nothing of its repository."""
