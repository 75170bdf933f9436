"""kdbench: knowledge distillation methods, compared under equal conditions."""
