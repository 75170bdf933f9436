"""feature_model."""
