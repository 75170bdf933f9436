"""Teachers and students behind one face."""
