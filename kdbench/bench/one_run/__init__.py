"""One run looked at closely.

===================  =================================================================================================
``outputs.py``       what its student says of the test images: classes, confusions, calibration, agreement with the teacher
===================  =================================================================================================
"""
