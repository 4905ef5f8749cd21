"""New reviews in a run that is trained already: who and what is new, what changes, and what stays as it was learned."""
