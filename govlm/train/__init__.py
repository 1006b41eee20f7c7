"""Training: fine-tuning and evaluation. Import what you need from the modules; importing this package loads nothing."""
