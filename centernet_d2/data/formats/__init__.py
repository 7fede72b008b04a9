"""Parsers of foreign label files: XML, MATLAB, pts."""
