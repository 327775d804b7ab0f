"""Looks at everything that a set-up needs, and says what is wrong and how to mend it. Changes nothing."""
