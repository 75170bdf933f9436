"""The command line: argument parsing only; every verb calls one library function."""
