"""Rows to predict on: files, standard input and requests, by what a model was trained on."""
