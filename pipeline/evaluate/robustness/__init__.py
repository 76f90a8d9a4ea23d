"""What the result is worth beside its number: is it an optimum, can it be moved to one, would it come out again?"""
