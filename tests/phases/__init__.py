"""``make phases``: is every event of real model servers tagged with the right phase, model and origin?"""
