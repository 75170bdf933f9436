"""Every method: one file, its loss function first, then its Distiller."""
