/* The work of every flow: says that it runs, and pauses. Usage: worker REGISTER NUMBER */
#include "register.h"
#include <stdlib.h>

int main(int argc, char **argv)
{
    int fault = argc == 3 ? tell_register(argv[1], atoi(argv[2])) : 1;
    while (!fault)
        pause();
    return fault;
}
