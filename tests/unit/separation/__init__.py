"""Tests of the separation by object."""
