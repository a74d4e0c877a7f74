"""What a model's convolutions are seen by: one room per framework, each in the process that has the model."""
