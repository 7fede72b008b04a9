"""Modules that backbones, necks and heads are built from."""
