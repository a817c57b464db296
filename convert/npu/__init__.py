"""Compile models for NPUs (neural processing units) with the compilers of their vendors, which the user installs."""
