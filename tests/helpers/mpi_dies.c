/* Rank RANK dies in the manner asked for while all others wait for it: exit STATUS, abort STATUS, or kill SIGNAL. */

#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
    int rank, which = atoi(argv[1]), number = atoi(argv[3]);

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == which) {
        printf("rank %d dies\n", rank);
        fflush(stdout);
        if (strcmp(argv[2], "exit") == 0)
            exit(number);
        if (strcmp(argv[2], "abort") == 0)
            MPI_Abort(MPI_COMM_WORLD, number);
        raise(number);
    }
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Finalize();
    return 0;
}
