"""What a model family offers the workbench: the contract, its options, how it is found, how one is begun."""
