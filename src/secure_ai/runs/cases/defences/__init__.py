"""Defences that hold: networks trained by the methods of `secure-ai harden`, beside the two reports' own."""
