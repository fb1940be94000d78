// failure_text: the error that ended a script, with the lines of its source.
#ifndef NEAP_CLI_FAILURE_TEXT_H
#define NEAP_CLI_FAILURE_TEXT_H

#include <stdio.h>

// failure_print writes the error, the lines around the place that it names
// ("file.lua:12:" at its beginning, else the first frame of the traceback), and
// the traceback.
void failure_print(FILE *out, const char *error, const char *traceback);

// failure_print_source writes the lines around one, if the file can be read.
void failure_print_source(FILE *out, const char *path, int line);

#endif
