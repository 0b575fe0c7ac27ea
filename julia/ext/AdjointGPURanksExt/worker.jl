# Resident ranks. Rank 0 holds a socket to the process that drives them: commands come and events
# go as JSON, a line each; arrays travel in HDF5 files in a folder that all see.

struct Cancelled <: Exception end

const TAG = 7

"""
    serve(host, port, token, folder, backend)

Connect to the driver, do what it says until it hangs up. A rank that fails writes `rank-K.error`
and ends all of them.
"""
function AdjointGPU.serve(host::AbstractString, port::Integer, token::AbstractString,
                          folder::AbstractString, backend::AbstractString)
    init_global_grid()
    comm = MPI.COMM_WORLD
    rank = MPI.Comm_rank(comm)
    log = open(joinpath(folder, "rank-$rank.log"), "w")
    println(log, "rank $rank: process $(getpid()) on $(gethostname())")
    flush(log)
    redirect_stdio(; stdout=log, stderr=log)
    try
        socket = rank == 0 ? connect(host, port) : nothing
        tell(socket; event="ready", token, ranks=MPI.Comm_size(comm), device=AdjointGPU.device(
                 AdjointGPU.Kernels{Symbol(backend),Float64,1}()),
             version=string(pkgversion(AdjointGPU)), julia=string(VERSION))
        simulations = Dict{String,Any}()
        while true
            line = share(socket, comm)
            isempty(line) && break
            command = JSON.parse(line)
            if command["command"] == "cancel"   # too late
                tell(socket; event="cancelled")
            else
                source = get(command["simulation"], "source", nothing)
                source === nothing || AdjointGPU.load(source["path"], source["text"])
                # What was loaded is newer than this loop.
                Base.invokelatest(execute, command, socket, folder, comm, simulations)
            end
        end
        finalize_global_grid()
    catch error
        fail(error, catch_backtrace(), folder, rank)
        MPI.Abort(comm, 1)
    end
    return
end

function fail(error, trace, folder, rank)
    showerror(stderr, error, trace)
    println(stderr)
    flush(stderr)
    report = (; rank, type=string(nameof(typeof(error))), message=first(split(sprint(showerror, error), '\n')))
    part = joinpath(folder, "rank-$rank.part")
    write(part, JSON.json(report))
    mv(part, joinpath(folder, "rank-$rank.error"); force=true)
end

tell(::Nothing; event...) = nothing
tell(socket; event...) = println(socket, JSON.json(event))

"Rank 0's next line, on every rank; empty once the driver has gone. Those who wait sleep."
function share(socket, comm)
    if socket !== nothing
        line = readline(socket)
        for rank in 1:MPI.Comm_size(comm)-1
            MPI.send(line, comm; dest=rank, tag=TAG)
        end
        return line
    end
    while !MPI.Iprobe(comm; source=0, tag=TAG)
        sleep(0.001)
    end
    return MPI.recv(comm; source=0, tag=TAG)::String
end

function execute(command, socket, folder, comm, simulations)
    sim = simulation(command, simulations)
    # Called together by all ranks, between iterations.
    function check(iterations, residual)
        tell(socket; event="progress", iterations, residual)
        stop = socket !== nothing && bytesavailable(socket) > 0
        MPI.Allreduce(stop, |, comm) && throw(Cancelled())
    end
    options = (; tolerance=command["tolerance"], max_iterations=command["max_iterations"],
               low=command["low"], check)
    rank = MPI.Comm_rank(comm)
    try
        results, report = h5open(joinpath(folder, command["input"]), "r") do file
            run(Val(Symbol(command["command"])), sim, file, options)
        end
        write_block(joinpath(folder, "$(command["output"])-$rank.h5"), sim, results)
        MPI.Barrier(comm)
        tell(socket; event="done", (k => getfield(report, k) for k in fieldnames(typeof(report)))...)
    catch error
        error isa Cancelled || rethrow()
        socket === nothing || readline(socket)
        tell(socket; event="cancelled")
    end
    return
end

function simulation(command, simulations)
    key = JSON.json(command["simulation"])
    get!(simulations, key) do
        empty!(simulations)     # one at a time: its arrays may fill the device
        spec = JSON.parse(key)
        floats(name) = Tuple(Float64.(spec["grid"][name]))
        grid = Grid(Tuple(Int.(spec["grid"]["shape"])), floats("extent"); origin=floats("origin"))
        topology = AdjointGPU.cartesian(grid; dims=Tuple(Int.(something(spec["topology"], zero.(grid.shape)))))
        model = AdjointGPU.build(spec["name"], grid, spec["table"])
        T = spec["dtype"] == "float32" ? Float32 : Float64
        Simulation(model; backend=Symbol(spec["backend"]), T, topology)
    end
end

function run(::Val{:solve}, sim, file, options)
    state, report = solve!(sim, given(sim, file); initial=cells(sim, file, "initial"), options...)
    return (; state), report
end

function run(::Val{:adjoint}, sim, file, options)
    gradient, multiplier, report = adjoint!(sim, cells(sim, file, "source");
        state=cells(sim, file, "state"), parameters=given(sim, file),
        initial=cells(sim, file, "initial"), options...)
    return (; multiplier, gradient...), report
end

"This rank's cells of a field in the file, or nothing."
cells(sim, file, name) = haskey(file, name) ? file[name][AdjointGPU.whole(sim.block)...] : nothing

function given(sim, file)
    names = filter(name -> haskey(file, "parameters/$name"), keys(AdjointGPU.parameters(sim.model)))
    return NamedTuple(name => AdjointGPU.is_field(sim.model, name) ?
                      cells(sim, file, "parameters/$name") : read(file, "parameters/$name")
                      for name in names)
end

function write_block(path, sim, results)
    h5open(path, "w") do file
        for (name, values) in pairs(results)
            file[string(name)] = values
        end
        # In array order, counted from 0.
        attributes(file)["start"] = collect(reverse(first.(AdjointGPU.whole(sim.block)) .- 1))
    end
end
