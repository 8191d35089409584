"""The sub-commands of people who use models: predict, evaluate, train and export."""
