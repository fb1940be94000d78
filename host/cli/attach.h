// attach: `neap attach PATH`, the console of another process.
#ifndef NEAP_CLI_ATTACH_H
#define NEAP_CLI_ATTACH_H

// attach_main does what the arguments behind "attach" say. Returns the exit
// status: 1 after an error, 2 if the arguments are wrong.
int attach_main(int argc, char **argv);

#endif
