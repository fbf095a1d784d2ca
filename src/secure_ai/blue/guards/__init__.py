"""Guards: what is done to an input before the network sees it, and what attacks leave of that."""
