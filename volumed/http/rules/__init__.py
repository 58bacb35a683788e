"""Pure decisions: what a request asks for, who may ask, and what the answer says."""
