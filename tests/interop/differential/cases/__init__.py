"""What is asked, one module per topic; within a topic later requests see what earlier ones stored."""
