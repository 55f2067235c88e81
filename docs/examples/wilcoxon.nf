// Wilcoxon's test of a screen, block by block:
//
//     nextflow run wilcoxon.nf --screen /shared/screen.h5ad --result /shared/result.h5ad
//
// Both paths must be absolute, and in folders that all nodes see.
process plan {
    output: path 'plan.json'
    script: "crispyx de plan wilcoxon ${params.screen} --perturbation-column perturbation -o ${params.result} --json > plan.json"
}

process block {
    cpus 2
    errorStrategy 'retry'
    input: val number
    output: val number
    script: "crispyx de run-block ${params.result}.blocks --block ${number} --threads ${task.cpus}"
}

process assemble {
    input: val numbers
    script: "crispyx de assemble ${params.result}.blocks"
}

workflow {
    numbers = plan().flatMap { (0..<new groovy.json.JsonSlurper().parse(it).n_blocks).toList() }
    assemble(block(numbers).collect())
}
