"""Figures from run folders."""
