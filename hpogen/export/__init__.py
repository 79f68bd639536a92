"""Hands the trials of a study on: tables, Optuna, MLflow, TensorBoard."""
