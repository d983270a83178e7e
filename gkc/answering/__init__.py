"""Answers to questions from what a store publishes; a service's doors and the client use it alike.

It follows the catalogue, reads records and has rows laid, and knows no transport.
"""
